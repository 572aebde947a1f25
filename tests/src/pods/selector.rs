//! Label selectors.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether labels are what a LabelSelector (`matchLabels`, `matchExpressions`) wants. An empty one wants nothing.
pub fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let expressions = selector["matchExpressions"].as_array();
    has_all(&selector["matchLabels"], labels)
        && expressions.into_iter().flatten().all(|expression| {
            let value = labels.get(text(&expression["key"]));
            let values = expression["values"].as_array();
            let listed = value
                .is_some_and(|value| values.into_iter().flatten().any(|one| text(one) == value));
            match text(&expression["operator"]) {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether labels have every key of a plain map, with its value.
pub fn has_all(map: &Value, labels: &BTreeMap<String, String>) -> bool {
    let map = map.as_object();
    map.into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key).is_some_and(|label| label == text(value)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    #[test]
    fn all_conditions_count() {
        let labels = BTreeMap::from([("app".to_owned(), "redis".to_owned())]);
        for (selector, matches) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "redis"}}), true),
            (json!({"matchLabels": {"app": "redis", "x": "y"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "redis"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["redis"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["redis"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchLabels": {"app": "redis"}, "matchExpressions": [{"key": "app", "operator": "In", "values": []}]}),
                false,
            ),
        ] {
            assert_eq!(super::matches(&selector, &labels), matches, "{selector}");
        }
    }
}
