//! What objects add up to.
