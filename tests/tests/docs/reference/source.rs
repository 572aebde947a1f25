//! `filter/core/src/config.rs`, read as Rust: its structs, their fields, defaults and doc comments.

use syn::{Attribute, Expr, Fields, File, Item, ItemFn, ItemStruct, Lit, Meta, Stmt, Type};

use crate::markdown::read;

/// One struct that a user may configure.
pub struct Plugin {
    /// Its root id; for a part of several, the name of the field that holds it.
    pub id: String,
    pub fields: Vec<Field>,
}

pub struct Field {
    pub name: String,
    /// The Rust type without spaces: `Option<CredentialsConfig>`.
    pub rust: String,
    pub default: Default,
    pub doc: String,
}

/// What a field is when it is not given.
pub enum Default {
    Required,
    /// Whatever its type begins as.
    OfType,
    Is(String),
}

/// The structs whose names end in `Config`, in the order of the file.
pub fn plugins() -> Vec<Plugin> {
    let file = syn::parse_file(&read("filter/core/src/config.rs")).expect("Rust");
    let structs = file.items.iter().filter_map(|item| match item {
        Item::Struct(item) if item.ident.to_string().ends_with("Config") => Some(item),
        _ => None,
    });
    structs.map(|item| plugin(&file, item)).collect()
}

fn plugin(file: &File, item: &ItemStruct) -> Plugin {
    let doc = doc(&item.attrs);
    let id = match doc.strip_prefix("Root id `") {
        Some(rest) => rest.split('`').next().expect("a name").to_owned(),
        None => {
            let name = item.ident.to_string();
            name.trim_end_matches("Config").to_ascii_lowercase()
        }
    };
    let Fields::Named(fields) = &item.fields else {
        panic!("{id} has no fields");
    };
    let fields = fields.named.iter().map(|field| Field {
        name: field.ident.as_ref().expect("a name").to_string(),
        rust: name_of(&field.ty),
        default: default(file, &field.attrs),
        doc: self::doc(&field.attrs),
    });
    Plugin {
        id,
        fields: fields.collect(),
    }
}

/// The lines of a doc comment as one.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(meta) = &attribute.meta else {
            return None;
        };
        match &meta.value {
            Expr::Lit(literal) if meta.path.is_ident("doc") => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        }
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn name_of(kind: &Type) -> String {
    let Type::Path(path) = kind else {
        panic!("a type that is not a path");
    };
    let last = path.path.segments.last().expect("a segment");
    let name = last.ident.to_string();
    match &last.arguments {
        syn::PathArguments::AngleBracketed(inner) => {
            let inner = inner.args.iter().map(|argument| match argument {
                syn::GenericArgument::Type(kind) => name_of(kind),
                _ => panic!("{name} has an argument that is no type"),
            });
            format!("{name}<{}>", inner.collect::<Vec<_>>().join(","))
        }
        _ => name,
    }
}

fn default(file: &File, attributes: &[Attribute]) -> Default {
    let mut found = Default::Required;
    for attribute in attributes.iter().filter(|it| it.path().is_ident("serde")) {
        let parsed = attribute.parse_nested_meta(|meta| {
            assert!(meta.path.is_ident("default"), "a rule that is not told");
            found = if meta.input.peek(syn::Token![=]) {
                let name: syn::LitStr = meta.value()?.parse()?;
                Default::Is(value_of(file, &name.value()))
            } else {
                Default::OfType
            };
            Ok(())
        });
        parsed.expect("an attribute of serde");
    }
    found
}

/// What a function without arguments returns, as a configuration writes it.
fn value_of(file: &File, function: &str) -> String {
    let found = file.items.iter().find_map(|item| match item {
        Item::Fn(item) if item.sig.ident == function => Some(item),
        _ => None,
    });
    let ItemFn { block, .. } = found.unwrap_or_else(|| panic!("no function {function}"));
    match block.stmts.as_slice() {
        [Stmt::Expr(value, None)] => text(value),
        _ => panic!("{function} is more than a value"),
    }
}

/// `Span(Duration::from_secs(3))` is `3s`, `"x".to_owned()` is `x`.
fn text(value: &Expr) -> String {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => text.value(),
            Lit::Int(number) => number.base10_digits().to_owned(),
            Lit::Bool(flag) => flag.value.to_string(),
            _ => panic!("a literal of another kind"),
        },
        Expr::MethodCall(call) if call.method == "to_owned" => text(&call.receiver),
        Expr::Call(call) => {
            let Expr::Path(function) = call.func.as_ref() else {
                panic!("a call of something else");
            };
            let name = &function.path.segments.last().expect("a name").ident;
            let inner = text(call.args.first().expect("an argument"));
            match name.to_string().as_str() {
                "Span" | "Period" => inner,
                "from_secs" => format!("{inner}s"),
                "from_millis" => format!("{}s", inner.parse::<f64>().expect("a number") / 1000.0),
                other => panic!("{other} is not known here"),
            }
        }
        _ => panic!("a default of another form"),
    }
}
