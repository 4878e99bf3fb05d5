/* Names that meet what is made of other names. */
include "one/common.thrift"

// Named like arguments, and like what derived code calls its own.
const i32 msg = 1
const i32 msg_ = 2
const i32 context = 3
const string type = "t"
const i32 f = 4
const i32 other = 5
const i32 state = 6
const i32 BarClient = 7
const i32 value = 9

enum Level {
    variant_name = 1,
    variant_name_ok = 2,
    other = 3,
}

struct FooClient {
    1: required i32 msg,
    2: Level level,
    3: list<double> other,
}

union Option {
    1: i32 Some,
    2: string msg,
    3: FooClient foo_client,
}

exception FooAddException {
    1: string message,
}

typedef i32 FooServer

/** Its server and its client have other names: these are taken. */
service Foo {
    i32 add(1: i32 msg, 2: i32 context, 3: i32 type, 4: i32 call_context, 5: i32 aB, 6: i32 a_b, 7: i32 __to)
        throws (1: FooAddException failed),
    i32 bar_baz(1: FooServer number) throws (1: FooAddException failed),
    common.Own own(1: FooClient foo, 2: Option option, 3: i32 _1),
    i32 new(1: i32 f),
    i32 fmt(1: i32 __f, 2: i32 value),
}

/** Its exceptions would have the name of those of `Foo.bar_baz`. */
service FooBar extends Foo {
    i32 baz(1: i32 msg) throws (1: FooAddException failed),
}

service Bar {
    void clone(),
}

union Nothing {}

/** A keyword that can't be one with `r#`. */
service self {
    Nothing nothing(),
}
