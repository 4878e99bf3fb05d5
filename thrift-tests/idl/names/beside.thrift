// Includes a file that another root includes, and one that has the name of one that another includes.
include "two/common.thrift"
include "../included/shared.thrift"
include "meeting.thrift"

const i32 msg = 10

struct Owner {
    1: required common.Own own,
    2: required shared.Point point,
}

// A constant of this file meets an argument of another's function.
service Beside extends meeting.FooBar {
    Owner owner(1: common.Own msg),
}
