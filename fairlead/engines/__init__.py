"""Everything that answers: local models, servers, and a cache in front of either."""
