"""The compiled operators' sources: one stem an operator; `cascadezoo build-ops` builds them."""
