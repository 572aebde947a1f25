//! What README.md, DESIGN.md and docs/ say, held against the code: a page that lies is worse than none.

mod commands;
mod configuration;
mod design;
mod kubectl;
mod licence;
mod live;
mod logs;
mod markdown;
mod names;
mod reference;
mod release;
mod releases;
mod security;
mod shell;
mod supply_chain;
