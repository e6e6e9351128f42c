//! Ports implemented: SQLite, exact search in memory, Qdrant.
