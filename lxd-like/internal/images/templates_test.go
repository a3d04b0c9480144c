package images_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// volume makes a directory as an instance's volume is, with one template "t".
func volume(t *testing.T, template string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"rootfs/etc", "templates"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "templates/t"), []byte(template), 0o644))
	return dir
}

func meta(target string, t api.ImageMetadataTemplate) api.ImageMetadata {
	if t.Template == "" {
		t.Template = "t"
	}
	if t.When == nil {
		t.When = []string{"create", "start"}
	}
	return api.ImageMetadata{Templates: map[string]*api.ImageMetadataTemplate{target: &t}}
}

var vars = images.Vars{
	Name: "web", Architecture: "x86_64", Privileged: true,
	Config:  map[string]string{"user.motd": "hi <&>", "limits.cpu": "2"},
	Devices: map[string]map[string]string{"eth0": {"type": "nic"}},
}

// growing becomes the square of its length.
var growing = func() string {
	text := strings.Repeat("x", 4000)
	return `{% for a in "` + text + `" %}{{ "` + text + `" }}{% endfor %}`
}()

func TestRenderTemplates(t *testing.T) {
	tests := map[string]struct{ template, want, bad string }{
		"instance":       {template: "{{ instance.name }}, {{ container.name }} {{ instance.privileged }} {{ instance.ephemeral }}", want: "web, web true false"},
		"config":         {template: `{{ config_get("user.motd", "x") }}|{{ config_get("user.none", "default") }}`, want: "hi <&>|default"},
		"config as map":  {template: `{% for k, v in config sorted %}{{ k }}={{ v }};{% endfor %}`, want: "limits.cpu=2;user.motd=hi <&>;"},
		"condition":      {template: `{% if config_get("user.none", "") == "" %}empty{% else %}{{ trigger }}{% endif %}`, want: "empty"},
		"trigger, path":  {template: "{{ trigger }} {{ path }} {{ properties.a }} {{ devices.eth0.type }}", want: "create /etc/f b nic"},
		"line ends":      {template: "a\n{{ instance.name }}\n", want: "a\nweb\n"},
		"include":        {template: `{% include "/etc/passwd" %}`, bad: "include"},
		"ssi":            {template: `{% ssi "/etc/passwd" %}`, bad: "ssi"},
		"extends":        {template: `{% extends "/etc/passwd" %}`, bad: "extends"},
		"syntax":         {template: "{{ instance.name", bad: "/etc/f"},
		"recursion":      {template: "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", bad: "macro"},
		"doubling":       {template: `{% set a = "xx" %}{% set a = a + a %}`, bad: "set"},
		"doubling below": {template: `{% with b = "x" + "x" %}{% endwith %}`, bad: "with"},
		"widening":       {template: `{{ "x"|ljust:2000000000 }}`, bad: "ljust"},
		"growing":        {template: growing, bad: "becomes larger"},
		"depth":          {template: "{{ " + strings.Repeat("(", 1<<19) + "1" + strings.Repeat(")", 1<<19) + " }}", bad: "larger than"},
		"allowed depth":  {template: "{{ " + strings.Repeat("(", 1<<13) + "1" + strings.Repeat(")", 1<<13) + " }}", want: "1"},
		"unknown filter": {template: "{{ instance.name|frobnicate }}", bad: "frobnicate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := volume(t, tt.template)
			err := images.RenderTemplates(dir, meta("/etc/f", api.ImageMetadataTemplate{Properties: map[string]string{"a": "b"}}), images.OnCreate, vars)
			if tt.bad != "" {
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.bad) {
					t.Errorf("got %v, want it to name %s", err, tt.bad)
				}
				return
			}
			must(t, err)
			if got, err := os.ReadFile(filepath.Join(dir, "rootfs/etc/f")); err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestRealTemplates renders what images of the peers' servers have.
func TestRealTemplates(t *testing.T) {
	const userData = `{%- if config_get("cloud-init.user-data", properties.default) == properties.default -%}
{{ config_get("user.user-data", properties.default) }}
{%- else -%}
{{- config_get("cloud-init.user-data", properties.default) }}
{%- endif %}
`
	const network = `{% if config_get("user.network-config", "") == "" %}version: 1
config:
  - type: physical
    name: {% if instance.type == "virtual-machine" %}enp5s0{% else %}eth0{% endif %}
    subnets:
      - type: {% if config_get("user.network_mode", "") == "link-local" %}manual{% else %}dhcp{% endif %}
        control: auto{% else %}{{ config_get("user.network-config", "") }}{% endif %}
`
	const chosen = `{%- if config_get("cloud-init.network-config", "") == "" -%}
{%- if config_get("user.network-config", "") == "" -%}
version: 1
{%- else -%}
{{- config_get("user.network-config", "") -}}
{%- endif -%}
{%- else -%}
{{- config_get("cloud-init.network-config", "") -}}
{%- endif %}
`
	tests := map[string]struct {
		template string
		config   map[string]string
		want     string
	}{
		"meta-data": {
			"instance-id: {{ container.name }}\nlocal-hostname: {{ container.name }}\n{{ config_get(\"user.meta-data\", \"\") }}\n",
			map[string]string{"user.meta-data": "a: '<b>'"},
			"instance-id: web\nlocal-hostname: web\na: '<b>'\n",
		},
		"user-data":             {userData, nil, "#cloud-config\n{}\n"},
		"user-data, older name": {userData, map[string]string{"user.user-data": "#!/bin/sh\nx && y"}, "#!/bin/sh\nx && y\n"},
		"user-data, newer name": {userData, map[string]string{"cloud-init.user-data": "new", "user.user-data": "old"}, "new\n"},
		"network":               {network, nil, "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: dhcp\n        control: auto\n"},
		"network, link-local":   {network, map[string]string{"user.network_mode": "link-local"}, "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: manual\n        control: auto\n"},
		"network, given":        {network, map[string]string{"user.network-config": "version: 2"}, "version: 2\n"},
		"network, both names":   {chosen, map[string]string{"user.network-config": "old", "cloud-init.network-config": "new"}, "new\n"},
		"network, older name":   {chosen, map[string]string{"user.network-config": "old"}, "old\n"},
		"network, neither name": {chosen, nil, "version: 1\n"},
		"key by index":          {`{{ config["user.motd"] }}{% if "user.x" in config %}!{% endif %}`, map[string]string{"user.motd": "hi"}, "hi"},
		"filters":               {`{{ instance.name|upper }} {{ config_get("user.x", "")|default:"none" }} {{ "a,b"|split:","|length }}`, nil, "WEB none 2"},
		"comment, loop":         {`{# note #}{% for name, device in devices sorted %}{{ name }}:{{ device.type }} {% endfor %}`, nil, "eth0:nic "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := volume(t, tt.template)
			v := images.Vars{Name: "web", Config: tt.config, Devices: map[string]map[string]string{"eth0": {"type": "nic"}}}
			template := api.ImageMetadataTemplate{Properties: map[string]string{"default": "#cloud-config\n{}"}}
			must(t, images.RenderTemplates(dir, meta("/etc/f", template), images.OnCreate, v))
			got, err := os.ReadFile(filepath.Join(dir, "rootfs/etc/f"))
			if err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestRenderTemplatesWhere(t *testing.T) {
	host := t.TempDir()
	secret := filepath.Join(host, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	tests := map[string]struct {
		target, before string // A shell script in rootfs.
		template       api.ImageMetadataTemplate
		want           string // What a shell script in rootfs, after, prints.
		after          string
		bad            string
	}{
		"new":              {target: "/etc/f", after: "cat etc/f; stat -c %a:%u:%g etc/f", want: "web644:0:0"},
		"new directory":    {target: "/a/b/f", after: "cat a/b/f", want: "web"},
		"existing":         {target: "/etc/f", before: "echo longer > etc/f; chmod 604 etc/f", after: "cat etc/f; stat -c %a etc/f", want: "web604"},
		"mode":             {target: "/etc/f", template: api.ImageMetadataTemplate{Mode: "0755"}, after: "stat -c %a etc/f", want: "755"},
		"create only":      {target: "/etc/f", before: "printf old > etc/f", template: api.ImageMetadataTemplate{CreateOnly: true}, after: "cat etc/f", want: "old"},
		"other trigger":    {target: "/etc/f", template: api.ImageMetadataTemplate{When: []string{"copy"}}, after: "ls etc", want: ""},
		"dots":             {target: "/../../../etc/f", after: "cat etc/f", want: "web"},
		"link to the host": {target: "/etc/f", before: "ln -s $HOST/secret etc/f", after: "cat $HOST/secret; cat etc/f; cat ./$HOST/secret 2>&1 || true", want: ""},
		"link up":          {target: "/etc/f", before: "ln -s ../../../../../../../../../$HOST/secret etc/f", want: ""},
		"directory linked": {target: "/d/f", before: "ln -s $HOST d; mkdir -p ./$HOST", after: "cat ./$HOST/f", want: "web"},
		"link within":      {target: "/etc/f", before: "ln -s /real etc/f; touch real", after: "cat real", want: "web"},
		"fifo":             {target: "/etc/f", before: "mkfifo etc/f", bad: ""},
		"directory":        {target: "/etc", bad: "/etc"},
		"template outside": {target: "/etc/f", template: api.ImageMetadataTemplate{Template: "../x"}, bad: "../x"},
		"template missing": {target: "/etc/f", template: api.ImageMetadataTemplate{Template: "x"}, bad: "x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := volume(t, "{{ instance.name }}")
			sh := func(script string) string {
				out, err := shell(t, filepath.Join(dir, "rootfs"), strings.ReplaceAll(script, "$HOST", host))
				if err != nil {
					t.Fatalf("%s: %v", script, err)
				}
				return strings.TrimSpace(out)
			}
			sh(tt.before)
			err := images.RenderTemplates(dir, meta(tt.target, tt.template), images.OnCreate, vars)
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Errorf("got %v, want it to name %s", err, tt.bad)
				}
			} else if err != nil && name != "fifo" {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
				t.Fatalf("the host's file: %q, %v", got, err)
			}
			if files, err := os.ReadDir(host); err != nil || len(files) != 1 {
				t.Fatalf("on the host: %v, %v", files, err)
			}
			if tt.after == "" || tt.want == "" {
				return
			}
			if got := sh(tt.after); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("templates is a link", func(t *testing.T) {
		dir := volume(t, "x")
		must(t, os.RemoveAll(filepath.Join(dir, "templates")))
		must(t, os.Symlink(host, filepath.Join(dir, "templates")))
		if err := images.RenderTemplates(dir, meta("/etc/f", api.ImageMetadataTemplate{Template: "secret"}), images.OnCreate, vars); err == nil {
			t.Error("it was followed")
		}
	})
}
