//! Pure: what Kubernetes takes as the key and the value of a label.
//!
//! The key's grammar, a *qualified name*, is also that of annotations' keys and of a port's `appProtocol`
//! (Kubernetes, "Labels and Selectors", "Syntax and character set").

/// The longest name part of a key, and the longest value of a label.
pub const MAX_NAME: usize = 63;
/// The longest prefix of a key, a DNS subdomain.
pub const MAX_PREFIX: usize = 253;

/// Whether `key` is a name, or a DNS subdomain, a slash and a name.
#[must_use]
pub fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// Whether `text` can be the value of a label: at most [`MAX_NAME`] characters, empty or with alphanumeric ends.
#[must_use]
pub fn is_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= MAX_NAME && ends && bytes.iter().all(inner)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && is_value(text)
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(inner)
    };
    text.len() <= MAX_PREFIX && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_name_with_or_without_a_domain() {
        for key in ["a", "app.kubernetes.io/name", "Example_1.x", "kubernetes.io/h2c"] {
            assert!(is_key(key), "{key:?}");
        }
        let long = format!("{}/a", "a".repeat(MAX_PREFIX + 1));
        for key in ["", "a b", "a/b/c", "Upper.example/x", "/a", "a/", "-a", "a-", &long] {
            assert!(!is_key(key), "{key:?}");
        }
    }

    #[test]
    fn a_value_may_be_empty_and_has_at_most_63_characters() {
        assert!(is_value("") && is_value("v1.2-rc_3") && is_value(&"a".repeat(MAX_NAME)));
        assert!(!is_value(&"a".repeat(MAX_NAME + 1)) && !is_value("not a value"));
    }
}
