# What other files include.
namespace py shared

typedef i64 Moment

/** Try again later. */
exception Busy {
    1: required Moment again,
}

struct Point {
    1: required i32 x,
    2: required i32 y = 7,
}

const i32 PORT = 0x13A6

service Base {
    /** Says that it is there. */
    string ping(1: string text),
}
