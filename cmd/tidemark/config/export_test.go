package config

// FileKeys are the keys at a file's top level, but for the list of databases.
func FileKeys() []string { return append(plainKeys(), keyRetention) }
