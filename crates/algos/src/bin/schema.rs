//! Prints `src/config/schema.json`: the registry and every parameter with its help, type, range and default.

fn main() {
    match serde_json::to_string_pretty(&drcorl_algos::describe()) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
