"""The published entries as data: one TOML file per publisher."""
