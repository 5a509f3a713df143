"""HTML that people see: the public forms and the API reference, rendered here, without scripts."""
