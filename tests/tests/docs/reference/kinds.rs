//! What the types of `config.rs` are to somebody who writes YAML, and the edges of what each allows.

use serde_json::{Value, json};

/// A type of `config.rs`.
pub struct Kind {
    rust: &'static str,
    /// Its name and its unit.
    pub name: &'static str,
    /// What a field of it is that is not given, where its type says so.
    pub default: &'static str,
    pub allowed: &'static str,
    /// At the edges of what is allowed, and beyond them.
    pub accepted: Vec<Value>,
    pub refused: Vec<Value>,
}

/// What is shown of a field of this Rust type. The units of numbers stand at the end of their names.
pub fn kind(field: &str, rust: &str) -> Kind {
    let (_, unit) = field.rsplit_once('_').unwrap_or_default();
    let unit = match unit {
        _ if !matches!(rust, "u32" | "u64") => "",
        "bytes" => ", bytes",
        "connections" => ", connections",
        _ => panic!("`{field}`: a number of what? The name must end in its unit"),
    };
    let kinds = kinds();
    let found = kinds.into_iter().find(|kind| kind.rust == rust);
    let mut kind = found.unwrap_or_else(|| panic!("the type {rust} of `{field}` is not told"));
    kind.name = match (kind.name, unit) {
        ("integer", ", bytes") => "integer, bytes",
        ("integer", ", connections") => "integer, connections",
        (name, _) => name,
    };
    kind
}

fn names(count: usize) -> Value {
    (0..count).map(|index| format!("m{index}")).collect()
}

fn text(length: usize) -> Value {
    "x".repeat(length).into()
}

fn credentials(username: Value, password: Value) -> Value {
    json!({ "username": username, "password": password })
}

fn kinds() -> [Kind; 13] {
    let inline = || json!({ "inline": "p" });
    [
        Kind {
            rust: "bool",
            name: "boolean",
            default: "`false`",
            allowed: "`true`, `false`",
            accepted: vec![json!(true), json!(false)],
            refused: vec![json!("yes"), json!(1)],
        },
        Kind {
            rust: "u32",
            name: "integer",
            default: "`0`",
            allowed: "0 to 4294967295",
            accepted: vec![json!(0), json!(u32::MAX)],
            refused: vec![json!(-1), json!(4_294_967_296_u64), json!(1.5)],
        },
        Kind {
            rust: "u64",
            name: "integer",
            default: "`0`",
            // A Struct of protobuf has only doubles for numbers.
            allowed: "0 to 9007199254740992",
            accepted: vec![json!(0), json!(9_007_199_254_740_992_u64)],
            refused: vec![json!(-1), json!(1.5), json!("1")],
        },
        Kind {
            rust: "Span",
            name: "duration, seconds",
            default: "none",
            allowed: "`0s` to `3600s`",
            accepted: vec![json!("0s"), json!("0.25s"), json!("3600s")],
            refused: vec![json!("3600.001s"), json!("-1s"), json!("1m"), json!(1)],
        },
        Kind {
            rust: "Period",
            name: "period, seconds",
            default: "none",
            allowed: "`0.05s` to `3600s`",
            accepted: vec![json!("0.05s"), json!("3600s")],
            refused: vec![json!("0.049s"), json!("3600.001s"), json!("1m")],
        },
        Kind {
            rust: "MasterName",
            name: "name",
            default: "none",
            allowed: "1 to 128 of `A-Z a-z 0-9 . - _`",
            accepted: vec![text(1), text(128), json!("A-z.0_9")],
            refused: vec![text(0), text(129), json!("a b"), json!(7)],
        },
        Kind {
            rust: "MasterNames",
            name: "list of names",
            default: "none",
            allowed: "1 to 32 different ones",
            accepted: vec![names(1), names(32)],
            refused: vec![names(0), names(33), json!(["a", "a"]), json!("a")],
        },
        Kind {
            rust: "ListenerRole",
            name: "word",
            default: "`master`",
            allowed: "`master`, `replica`",
            accepted: vec![json!("master"), json!("replica")],
            refused: vec![json!("slave"), json!("")],
        },
        Kind {
            rust: "String",
            name: "cluster",
            default: "`\"\"`",
            allowed: "a name, or empty",
            accepted: vec![json!(""), json!("redis")],
            refused: vec![json!(1)],
        },
        Kind {
            rust: "ClusterTemplate",
            name: "cluster template",
            default: "`\"\"`",
            allowed: "text with `{host}`, or empty",
            accepted: vec![json!(""), json!("{host}"), json!("redis-{host}-{port}")],
            refused: vec![json!("redis"), json!("redis-{port}")],
        },
        Kind {
            rust: "Vec<Address>",
            name: "list of addresses",
            default: "`[]`",
            allowed: "`ip:port` or `name:port`, IPv6 in brackets",
            accepted: vec![
                json!([]),
                json!(["10.0.0.1:1", "[::1]:65535", "redis:6379"]),
            ],
            refused: vec![json!(["10.0.0.1"]), json!(["a:0"]), json!(["a:65536"])],
        },
        Kind {
            rust: "Option<CredentialsConfig>",
            name: "[credentials](#credentials)",
            default: "none",
            allowed: "with a `password`",
            accepted: vec![
                json!({ "password": inline() }),
                credentials(json!("u"), inline()),
            ],
            refused: vec![json!({ "username": "u" }), json!("secret"), json!({})],
        },
        Kind {
            rust: "Word",
            name: "text",
            default: "`\"\"`",
            allowed: "at most 4096 bytes",
            accepted: vec![text(0), text(4096)],
            refused: vec![text(4097), json!(1)],
        },
    ]
}

/// `password`, which is one of two.
pub fn secret() -> Kind {
    let environment = |name: &str| json!({ "environment": name });
    Kind {
        rust: "Secret",
        name: "`environment` or `inline`",
        default: "none",
        allowed: "one of the two: a variable's name (64 letters, digits, `_` at most, no digit first), or text of at most 4096 bytes",
        accepted: vec![
            environment("SENTINEL_PASSWORD"),
            environment(&"x".repeat(64)),
            json!({ "inline": "p" }),
        ],
        refused: vec![
            environment(&"x".repeat(65)),
            environment("1X"),
            environment("a-b"),
            json!({ "environment": "A", "inline": "p" }),
            json!("p"),
            json!({}),
        ],
    }
}
