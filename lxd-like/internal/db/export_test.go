package db

// Flat is the fast way to read a configuration, for its test.
var Flat = flat
