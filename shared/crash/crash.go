//go:build !crashtest

// Package crash lets a test end the daemon between any two steps of its work.
//
// Without the build tag "crashtest", which nothing but that test sets, it does
// nothing and costs nothing.
package crash

// Point is a place between two steps, where a daemon under test can be killed.
// What it is called is put together only then.
func Point(string, ...string) {}

// Within is a place that is passed again and again, such as in a stream: a
// point when it is passed for the first time, and once more later.
func Within(string) {}

// During is a point a moment after it is passed, while a program runs.
func During(string, ...string) {}
