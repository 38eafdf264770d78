mod compare;
fn main() {}
