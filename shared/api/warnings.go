package api

import "time"

// Severities of warnings.
const (
	SeverityLow      = "low"
	SeverityModerate = "moderate"
	SeverityHigh     = "high"
)

// Statuses of warnings.
const (
	WarningNew          = "new"
	WarningAcknowledged = "acknowledged" // Somebody has seen it.
	WarningResolved     = "resolved"     // It is no more so.
)

// Warning is something that is wrong on the server or with one of its objects.
type Warning struct {
	WarningPut

	UUID        string    `json:"uuid"`
	Location    string    `json:"location"`
	Project     string    `json:"project" key:"project"`
	Type        string    `json:"type"`
	Count       int       `json:"count"` // How often it was seen.
	FirstSeenAt time.Time `json:"first_seen_at"`
	LastSeenAt  time.Time `json:"last_seen_at"`
	LastMessage string    `json:"last_message"`
	Severity    string    `json:"severity"`
	EntityURL   string    `json:"entity_url" key:"url"` // Empty for the server.
}

// WarningPut is the part of a warning that can be changed.
type WarningPut struct {
	Status string `json:"status"`
}
