"""Documents in, passages out: parsing, embedding, indexes, ranking, ingestion."""
