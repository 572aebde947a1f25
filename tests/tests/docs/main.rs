//! What README.md and DESIGN.md say, held against the code: a page that lies is worse than none.

mod commands;
mod configuration;
mod design;
mod licence;
mod markdown;
mod names;
mod security;
mod supply_chain;
