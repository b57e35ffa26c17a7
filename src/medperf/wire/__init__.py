"""What is said between a site and the server: request and response models, problem documents, paging."""
