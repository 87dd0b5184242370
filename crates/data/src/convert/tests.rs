#[test]
fn todo_tests() {}
