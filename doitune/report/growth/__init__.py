"""A family of runs in pictures: one page, figures as files, one document."""
