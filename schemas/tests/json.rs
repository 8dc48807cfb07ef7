//! The reader of bodies: bounded, exact, and never a panic.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use babelvisor_schemas::{JsonFault, JsonLimits, parse_json};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn read(text: &str) -> Result<Value, JsonFault> {
    parse_json(text.as_bytes(), JsonLimits::default())
}

#[test]
fn a_body_is_read_as_it_stands() {
    let value = read(r#" {"b":[1,-2,2.5,null,true],"a":{"x":"é"}} "#).unwrap();
    assert_eq!(value, json!({"b": [1, -2, 2.5, null, true], "a": {"x": "é"}}));
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["b", "a"]);
}

#[test]
fn a_repeated_key_is_refused_at_any_depth() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"[{"x":{"a":1,"b":2,"a":3}}]"#,
        r#"{"\u0061":1,"a":2}"#,
    ] {
        assert_eq!(
            read(text),
            Err(JsonFault::DuplicateKey { key: "a".to_owned() }),
            "{text}"
        );
    }
    assert!(read(r#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
}

#[test]
fn each_fault_has_its_name() {
    assert_eq!(read(""), Err(JsonFault::Empty));
    assert_eq!(read(" \r\n\t"), Err(JsonFault::Empty));
    assert!(matches!(
        read(r#"{"cpu":4,"#),
        Err(JsonFault::Truncated { line: 1, .. })
    ));
    assert!(matches!(
        read(r#"{"cpu":4}}"#),
        Err(JsonFault::Syntax { line: 1, column: 10 })
    ));
    assert!(matches!(read("{'cpu':4}"), Err(JsonFault::Syntax { .. })));
    assert!(matches!(
        read("{\"cpu\":4, // two\n}"),
        Err(JsonFault::Syntax { .. })
    ));
    assert!(matches!(read("1e999"), Err(JsonFault::Syntax { .. })));
    assert!(matches!(read("NaN"), Err(JsonFault::Syntax { .. })));
    assert_eq!(
        parse_json(b"{\"a\":\"\xff\"}", JsonLimits::default()),
        Err(JsonFault::NotUtf8 { offset: 6 })
    );
    assert_eq!(read(r#"{"name":"a\u0000b"}"#), Err(JsonFault::Nul));
    assert_eq!(read(r#"{"a\u0000b":1}"#), Err(JsonFault::Nul));
    assert!(matches!(
        read("{\"name\":\"a\0b\"}"),
        Err(JsonFault::Syntax { .. })
    ));
}

#[test]
fn limits_hold_exactly() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(64)).is_ok());
    assert_eq!(read(&nested(65)), Err(JsonFault::TooDeep { limit: 64 }));
    assert_eq!(read(&nested(100_000)), Err(JsonFault::TooDeep { limit: 64 }));
    let few = JsonLimits {
        max_values: 4,
        ..JsonLimits::default()
    };
    assert!(parse_json(b"[1,2,3]", few).is_ok());
    assert_eq!(
        parse_json(b"[1,2,3,4]", few),
        Err(JsonFault::TooMany { limit: 4 })
    );
    let small = JsonLimits {
        max_bytes: 4,
        ..JsonLimits::default()
    };
    assert!(parse_json(b"1234", small).is_ok());
    assert_eq!(parse_json(b"12345", small), Err(JsonFault::TooLarge { limit: 4 }));
}

#[test]
fn a_fault_tells_no_value() {
    let fault = read(r#"{"password":"made-up-secret","password":"made-up-secret"}"#).unwrap_err();
    assert!(!fault.to_string().contains("made-up-secret"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[^\u{0}]{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec(("[^\u{0}]{0,6}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn bytes_never_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse_json(&bytes, JsonLimits::default());
    }

    #[test]
    fn json_like_text_never_makes_it_fail(text in r#"[\[\]{}",:0-9eE+.\\ntfu -]{0,200}"#) {
        let ours = parse_json(text.as_bytes(), JsonLimits::default());
        // Whatever we take, an ordinary reader takes with the same meaning.
        if let Ok(value) = ours {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn what_is_written_is_read(value in any_json()) {
        let read = parse_json(value.to_string().as_bytes(), JsonLimits::default());
        prop_assert_eq!(read, Ok(value));
    }

    #[test]
    fn cutting_an_object_short_is_a_fault(value in any_json(), cut in any::<prop::sample::Index>()) {
        let text = json!({ "value": value }).to_string();
        let cut = cut.index(text.len());
        prop_assert!(parse_json(&text.as_bytes()[..cut], JsonLimits::default()).is_err());
    }

    #[test]
    fn a_key_put_in_twice_is_refused(key in "[a-z\"\\\\é]{0,8}", first in any_json(), second in any_json()) {
        let name = Value::String(key).to_string();
        let text = format!("{{{name}:{first},{name}:{second}}}");
        let fault = parse_json(text.as_bytes(), JsonLimits::default());
        let refused = matches!(fault, Err(JsonFault::DuplicateKey { .. }));
        prop_assert!(refused, "{:?}", fault);
    }
}
