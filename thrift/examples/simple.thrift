/** What the demonstration of Python Callosum serves as well. */
service SimpleService {
    /** Returns what it is given. */
    string echo(1: string msg),
    i64 add(1: i64 a, 2: i64 b),
    /** Always fails. */
    bool oops(),
    /** Takes 5 s. */
    bool long_delay(),
}
