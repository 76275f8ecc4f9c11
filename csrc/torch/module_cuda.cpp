// The Python module `srgan_fast._C_cuda`: loading it registers the operators' CUDA kernels; see module.cpp.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C_cuda() {
    static PyModuleDef definition{
        PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
    return PyModule_Create(&definition);
}
