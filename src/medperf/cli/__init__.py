"""Words to flow to text: one file per noun, no logic."""
