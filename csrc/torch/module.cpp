// The Python module `srgan_fast._C`. Loading it registers the operators; it contains nothing else, and only uses
// Python's stable ABI from 3.11 on.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C() {
    static PyModuleDef definition{
        PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
    return PyModule_Create(&definition);
}
