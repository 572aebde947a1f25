//! The first process of a container of the tests: see `pods::runtime`.

fn main() {
    match redis_sentinel_tests::pods::run_container() {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("container: {error:#}");
            std::process::exit(125);
        }
    }
}
