"""Pages of results, each a single HTML file that loads no other files."""
