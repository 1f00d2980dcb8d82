"""Live video: one reader per source for everybody who watches it, as fragmented MP4 or as JPEGs."""
