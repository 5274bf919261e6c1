"""Words for a finding of trust.sh on a node: a directory that others may write into."""

DANGER = "others who can write there could run programs as you"  # why that is refused
