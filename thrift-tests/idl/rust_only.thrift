/* What Python's thriftpy2 lacks: uuids, keys that are structs, types that hold themselves. */

struct Tree {
    1: required i32 value,
    2: list<Tree> children,
    3: optional Tree twin,
    4: optional Cycle cycle,
}

struct Cycle {
    1: optional Tree tree,
    2: optional Either either,
}

union Either {
    1: Tree tree;
    2: Cycle cycle;
    3: i32 leaf;
}

struct Key {
    1: required string name
    2: required i32 number
}

struct RealKey {
    1: required double real
}

const uuid NIL = "00112233-4455-6677-8899-aabbccddeeff"
const Either LEAF = {"leaf": 7}
const map<Key, list<i32>> TABLE = {{"name": "a", "number": 1}: [1, 2], {"name": "b", "number": 2}: []}

struct Odd {
    1: uuid id = NIL,
    2: map<Key, string> by_key,
    3: set<Key> keys,
    4: map<RealKey, i8> by_real_key,
    5: set<set<double>> sets,
    6: binary data = "bytes",
    7: list<Either> eithers = [LEAF, {"leaf": 8}],
    8: Key key = {"name": "it", "number": 3},
    string implicit,
    i32 second_implicit,
}

/* Defaults that take memory: a text of 100 bytes, and one of each container. */
struct Roomy {
    1: string text = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    2: optional list<string> texts = ["ab", "c"],
    3: set<i64> numbers = [1, 2],
    4: map<double, i8> by_real = {1.5: 1},
    5: Key key = {"name": "it", "number": 3},
    6: optional Inner inner = {},
    7: binary data = "is static",
    8: list<i64> none = [],
}

struct Inner {
    1: string text = "inner",
    2: optional Roomy outer,
}

exception fail_error { 1: string reason }

service Keywords {
    i32 match(1: i32 self, 2: i32 type, 3: i32 context) throws (1: fail_error fail),
    i32 new(1: string async = "default"),
    Tree grow(1: Tree tree),
    Odd odd(1: Odd odd),
}
