//! Pure: what a component counts, read from the text of its metrics.

/// The first value of a metric whose labels hold `label`; any labels where it is empty.
pub(crate) fn value(text: &str, name: &str, label: &str) -> Option<f64> {
    values(text, name).find(|(labels, _)| labels.contains(label)).map(|(_, value)| value)
}

/// The text of a label of a metric, such as the version that `landbridge_build_info` has.
pub(crate) fn label<'a>(text: &'a str, name: &'a str, label: &str) -> Option<&'a str> {
    let (labels, _) = values(text, name).next()?;
    let (_, rest) = labels.split_once(&format!("{label}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Labels and values, line by line.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    })
}

#[test]
fn metrics_are_read_by_name_and_label() {
    let text = "# TYPE a counter\na_total{kind=\"x\"} 3\na_total{kind=\"y\"} 4.5\na 1\nab 9\nb_info{version=\"0.1.0\"} 1\n";
    assert_eq!(value(text, "a_total", "kind=\"y\""), Some(4.5));
    assert_eq!(value(text, "a", ""), Some(1.0));
    assert_eq!(value(text, "c", ""), None);
    assert_eq!(label(text, "b_info", "version"), Some("0.1.0"));
    assert_eq!(label(text, "a_total", "version"), None);
}
