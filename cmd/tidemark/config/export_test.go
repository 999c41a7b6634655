package config

// Keys is keys.
func Keys() []string { return keys() }
