//go:build !crashtest

// Package crash lets a test end the daemon between any two steps of its work.
//
// Without the build tag "crashtest", which nothing but that test sets, it does
// nothing and costs nothing.
package crash

// Point is a place between two steps, where a daemon under test can be killed.
func Point(string) {}
