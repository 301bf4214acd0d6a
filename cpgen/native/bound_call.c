/* A call with fixed arguments as a Python object: calling it costs little more than the C function.
 *
 * bound_call(run, args, work, bytes, brief, out, keep, refuse): the first three are addresses.  The object calls
 * run(args, work, bytes) and returns out; where the status is not 0 it returns refuse(status), which is to raise.  keep owns
 * the memory behind the addresses.  A brief function runs without releasing the GIL, which would cost more than it does. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

typedef int32_t (*program)(const void *args, void *work, size_t bytes);

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    program run;
    const void *args;
    void *work;
    size_t bytes;
    int brief;
    PyObject *out;
    PyObject *keep;
    PyObject *refuse;
} bound_call;

static PyObject *call(PyObject *object, PyObject *const *arguments, size_t flags, PyObject *names)
{
    bound_call *self = (bound_call *)object;
    int32_t status;
    (void)arguments;
    if (PyVectorcall_NARGS(flags) != 0 || (names != NULL && PyTuple_GET_SIZE(names) != 0)) {
        PyErr_SetString(PyExc_TypeError, "a bound program takes no arguments: its arrays were given to bind");
        return NULL;
    }
    if (self->brief) {
        status = self->run(self->args, self->work, self->bytes);
    } else {
        Py_BEGIN_ALLOW_THREADS
        status = self->run(self->args, self->work, self->bytes);
        Py_END_ALLOW_THREADS
    }
    if (status != 0) {
        return PyObject_CallFunction(self->refuse, "l", (long)status);
    }
    Py_INCREF(self->out);
    return self->out;
}

static PyObject *make(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    unsigned long long run, args, work, bytes;
    int brief;
    PyObject *out, *keep, *refuse;
    bound_call *self;
    if (names != NULL && PyDict_GET_SIZE(names) != 0) {
        PyErr_SetString(PyExc_TypeError, "bound_call takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "KKKKpOOO", &run, &args, &work, &bytes, &brief, &out, &keep, &refuse)) {
        return NULL;
    }
    self = (bound_call *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = call;
    self->run = (program)(uintptr_t)run;
    self->args = (const void *)(uintptr_t)args;
    self->work = (void *)(uintptr_t)work;
    self->bytes = (size_t)bytes;
    self->brief = brief;
    Py_INCREF(out);
    self->out = out;
    Py_INCREF(keep);
    self->keep = keep;
    Py_INCREF(refuse);
    self->refuse = refuse;
    return (PyObject *)self;
}

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    bound_call *self = (bound_call *)object;
    Py_VISIT(self->out);
    Py_VISIT(self->keep);
    Py_VISIT(self->refuse);
    return 0;
}

/* Only when nothing can call the object any more: out is never NULL before. */
static void release(PyObject *object)
{
    bound_call *self = (bound_call *)object;
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->out);
    Py_CLEAR(self->keep);
    Py_CLEAR(self->refuse);
    Py_TYPE(object)->tp_free(object);
}

static PyMemberDef members[] = {
    {"out", T_OBJECT_EX, offsetof(bound_call, out), READONLY, "the arrays that every call writes, by name"},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject bound_call_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "cpgen_bound_call.bound_call",
    .tp_doc = "A program on fixed arrays; calling it fills and returns out.",
    .tp_basicsize = sizeof(bound_call),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(bound_call, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = make,
    .tp_dealloc = release,
    .tp_traverse = traverse,
    .tp_members = members,
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "cpgen_bound_call", .m_size = -1,
};

PyMODINIT_FUNC PyInit_cpgen_bound_call(void)
{
    PyObject *made;
    if (PyType_Ready(&bound_call_type) < 0) {
        return NULL;
    }
    made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    Py_INCREF(&bound_call_type);
    if (PyModule_AddObject(made, "bound_call", (PyObject *)&bound_call_type) < 0) {
        Py_DECREF(&bound_call_type);
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
