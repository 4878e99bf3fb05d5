/** A result that has no place in 64 bits. */
exception Overflow {
    1: string message,
}

service Calculator {
    /** The sum of all numbers. */
    i64 sum(1: list<i64> numbers) throws (1: Overflow overflow),
}

/** One that remembers. */
service Ledger extends Calculator {
    /** Writes a number behind the others. */
    oneway void write(1: i64 number),
    i64 balance() throws (1: Overflow overflow),
}
