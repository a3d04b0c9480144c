// Package version holds the version of all of Cuib's programs.
package version

// Number is the version: digits and dots, as clients of the API parse it.
const Number = "0.1.0"
