package metrics

// NewHandler is newHandler, for tests without a network.
var NewHandler = newHandler
