// Package integration tests tidemark from outside: against real services and
// real processes. It holds tests only; see its subpackages for what they use.
package integration
