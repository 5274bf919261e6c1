"""Values to text: words, JSON documents, CSV, aligned lines, rich tables. No I/O."""
