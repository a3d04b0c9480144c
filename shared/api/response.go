// Package api holds the structs of the REST API, as they are on the wire.
//
// They follow the API that Incus speaks; where LXD has fields of its own both
// are there. Decoding is tolerant: what a client sends beyond them is ignored.
// The structs have no behaviour.
package api

import (
	"encoding/json"
	"time"
)

// Response is the envelope of every answer but raw files and streams.
type Response struct {
	Type       string `json:"type"` // sync, async or error
	Status     string `json:"status"`
	StatusCode int    `json:"status_code"`
	Operation  string `json:"operation"`
	ErrorCode  int    `json:"error_code"`
	Error      string `json:"error"`
	Metadata   any    `json:"metadata"`
}

// StatusCode is the number that stands for a state in operations and
// instances.
type StatusCode int

// The status codes.
const (
	OperationCreated StatusCode = 100
	Started          StatusCode = 101
	Stopped          StatusCode = 102
	Running          StatusCode = 103
	Canceling        StatusCode = 104
	Pending          StatusCode = 105
	Starting         StatusCode = 106
	Stopping         StatusCode = 107
	Aborting         StatusCode = 108
	Freezing         StatusCode = 109
	Frozen           StatusCode = 110
	Thawed           StatusCode = 111
	Error            StatusCode = 112
	Ready            StatusCode = 113
	Success          StatusCode = 200
	Failure          StatusCode = 400
	Canceled         StatusCode = 401
)

var statusNames = map[StatusCode]string{
	OperationCreated: "Operation created", Started: "Started", Stopped: "Stopped", Running: "Running",
	Canceling: "Cancelling", Pending: "Pending", Starting: "Starting", Stopping: "Stopping",
	Aborting: "Aborting", Freezing: "Freezing", Frozen: "Frozen", Thawed: "Thawed", Error: "Error",
	Ready: "Ready", Success: "Success", Failure: "Failure", Canceled: "Cancelled",
}

// String returns the word that the wire has for the code.
func (c StatusCode) String() string { return statusNames[c] }

// Operation is a background operation.
type Operation struct {
	ID          string              `json:"id"`
	Class       string              `json:"class"` // task, websocket or token
	Description string              `json:"description"`
	CreatedAt   time.Time           `json:"created_at"`
	UpdatedAt   time.Time           `json:"updated_at"`
	Status      string              `json:"status"`
	StatusCode  StatusCode          `json:"status_code"`
	Resources   map[string][]string `json:"resources"`
	Metadata    map[string]any      `json:"metadata"`
	MayCancel   bool                `json:"may_cancel"`
	Err         string              `json:"err"`
	ErrCode     int64               `json:"err_code,omitempty"` // The HTTP status that fits Err.
	Location    string              `json:"location"`

	Project string `json:"-"` // Of the request that began it.
}

// OperationWarning is the key of the metadata of an operation that has a text
// for the user when it has succeeded.
const OperationWarning = "warning"

// Event is one message of the event stream.
type Event struct {
	Type      string          `json:"type"` // operation, lifecycle or logging
	Timestamp time.Time       `json:"timestamp"`
	Metadata  json.RawMessage `json:"metadata"`
	Location  string          `json:"location,omitempty"`
	Project   string          `json:"project,omitempty"`
}

// EventLifecycle is the metadata of an event of type lifecycle.
type EventLifecycle struct {
	Action    string          `json:"action"`
	Source    string          `json:"source"` // URL of the object.
	Context   map[string]any  `json:"context,omitempty"`
	Requestor *EventRequestor `json:"requestor,omitempty"`
	Name      string          `json:"name,omitempty"`
	Project   string          `json:"project,omitempty"`
}

// EventRequestor is who caused an event.
type EventRequestor struct {
	Username string `json:"username"`
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

// EventLogging is the metadata of an event of type logging.
type EventLogging struct {
	Message string            `json:"message"`
	Level   string            `json:"level"`
	Context map[string]string `json:"context"`
}
