//! The configuration: schema, validation and difference.
