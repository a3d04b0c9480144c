package kit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/shared/errs"
)

// UserConfig is what a user has set for cuib: config.yml in the directory
// $CUIB_CONF, else in ~/.config/cuib.
type UserConfig struct {
	Aliases map[string]string `yaml:"aliases"` // Never nil.
	Project string            `yaml:"project,omitempty"`
}

func (e *Env) userConfigPath() string {
	if dir := e.Getenv("CUIB_CONF"); dir != "" {
		return filepath.Join(dir, "config.yml")
	}
	dir := e.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(e.Getenv("HOME"), ".config")
	}
	return filepath.Join(dir, "cuib", "config.yml")
}

// UserConfig reads the user's configuration.
func (e *Env) UserConfig() (UserConfig, error) {
	c := UserConfig{Aliases: map[string]string{}}
	data, err := os.ReadFile(e.userConfigPath())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return c, errs.Invalidf("%s: %w", e.userConfigPath(), err)
	}
	if c.Aliases == nil {
		c.Aliases = map[string]string{}
	}
	return c, nil
}

// ChangeUserConfig changes the user's configuration.
func (e *Env) ChangeUserConfig(change func(c *UserConfig) error) error {
	c, err := e.UserConfig()
	if err != nil {
		return err
	}
	if err := change(&c); err != nil {
		return err
	}
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	path := e.userConfigPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	var files NewFiles
	defer files.Drop()
	f, err := files.Create(path, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return files.Rename()
}
