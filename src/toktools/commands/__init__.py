"""One room a tool."""
