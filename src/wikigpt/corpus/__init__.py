"""Where text comes from: raw files on disk -> a stream of articles."""
