package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// An apiClient makes requests as any program could, without our client.
type apiClient struct{ http *http.Client }

// errGone means that the daemon ended before it answered.
var errGone = errors.New("the daemon is gone")

func newAPI(socket string) *apiClient {
	return &apiClient{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// call makes a request, waits for the operation that it starts, and decodes
// the metadata into out, which may be nil.
func (a *apiClient) call(method, path string, body, out any) error {
	buf, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://cuib"+path, bytes.NewReader(buf))
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return errors.Join(errGone, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Type, Error, Operation string
		Metadata               json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return errors.Join(errGone, err)
	}
	switch answer.Type {
	case "error":
		return fmt.Errorf("%s %s: %s (HTTP %d)", method, path, answer.Error, resp.StatusCode)
	case "async":
		var op struct {
			Err        string
			StatusCode int `json:"status_code"`
		}
		if err := a.call(http.MethodGet, answer.Operation+"/wait", nil, &op); err != nil {
			return err
		}
		if op.StatusCode != http.StatusOK {
			return fmt.Errorf("%s %s: operation: %s (%d)", method, path, op.Err, op.StatusCode)
		}
		return nil
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Metadata, out)
}

// pull returns what a file has.
func (a *apiClient) pull(url string) (string, error) {
	return a.file(http.MethodGet, url, nil)
}

// list reads the names in a directory.
func (a *apiClient) list(url string, names *[]string) error {
	text, err := a.pull(url)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), &struct{ Metadata *[]string }{names})
}

// push writes a file.
func (a *apiClient) push(url string, data []byte) error {
	_, err := a.file(http.MethodPost, url, data)
	return err
}

func (a *apiClient) file(method, url string, data []byte) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://cuib"+url, bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Incus-type", "file")
	resp, err := a.http.Do(req)
	if err != nil {
		return "", errors.Join(errGone, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s (HTTP %d)", method, url, got, resp.StatusCode)
	}
	return string(got), err
}

type apiInstance struct {
	Name, Status string
	Config       map[string]string
	Snapshots    []struct{ Name string }
}

func (a *apiClient) instances() (map[string]apiInstance, error) {
	var all []apiInstance
	if err := a.call(http.MethodGet, "/1.0/instances?recursion=2", nil, &all); err != nil {
		return nil, err
	}
	out := map[string]apiInstance{}
	for _, in := range all {
		out[in.Name] = in
	}
	return out, nil
}

func (a *apiClient) create(name, image string) error {
	return a.call(http.MethodPost, "/1.0/instances", map[string]any{
		"name": name, "source": map[string]string{"type": "image", "alias": image},
	}, nil)
}

func (a *apiClient) setState(name, action string) error {
	return a.call(http.MethodPut, "/1.0/instances/"+name+"/state", map[string]any{"action": action, "force": true, "timeout": -1}, nil)
}
