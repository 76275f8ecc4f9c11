// The Python module `srgan_fast._C`. Loading it registers the operators; it has nothing else in it, and of Python only
// what every version from 3.11 on has.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
    static PyModuleDef definition{
        PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
    return PyModule_Create(&definition);
}
