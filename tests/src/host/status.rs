//! What a host call answers.

/// The statuses of the ABI, by their names there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    Unimplemented = 12,
}

/// A host call either answers `Ok` or says why not; the `?` of Rust does the rest.
pub type Answer = Result<(), Status>;

/// The number the module sees.
pub fn code(answer: Answer) -> u32 {
    match answer {
        Ok(()) => Status::Ok as u32,
        Err(status) => status as u32,
    }
}
