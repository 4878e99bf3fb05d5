struct Own {
    1: required string text,
}
