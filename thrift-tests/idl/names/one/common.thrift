struct Own {
    1: required i32 number,
}
