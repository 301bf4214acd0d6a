/* What a call costs besides the program, in C.
 *
 * bound_call is a call with fixed arguments as a Python object: calling it costs little more than the C function.
 * bound_call(run, args, work, bytes, brief, out, keep, refuse): the first three are addresses.  The object calls
 * run(args, work, bytes), or run(args) where there are no bytes, and returns out; where the status is not 0 it returns refuse(status), which may raise.  keep owns
 * the memory behind the addresses.  A brief function runs without releasing the GIL, which would cost more than it does.
 *
 * point looks at arrays and writes where they lie into a structure; see its own comment. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

typedef int32_t (*program)(const void *args, void *work, size_t bytes);
typedef int32_t (*plain_program)(const void *args);

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    program run;
    plain_program run_plain;
    const void *args;
    void *work;
    size_t bytes;
    int brief;
    PyObject *out;
    PyObject *keep;
    PyObject *refuse;
} bound_call;

static int32_t run_it(const bound_call *self)
{
    return self->bytes != 0U ? self->run(self->args, self->work, self->bytes) : self->run_plain(self->args);
}

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
        status = run_it(self);
    } else {
        Py_BEGIN_ALLOW_THREADS
        status = run_it(self);
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
    self->run_plain = (plain_program)(uintptr_t)run;
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
    .tp_name = "cpgen_fastcall.bound_call",
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

enum { SUMS = 8, LARGE = 1 << 16 };

/* Zero times every number, added up: zero exactly if all are finite.  Several sums keep a vector unit busy. */
static int all_finite_f64(const double *numbers, Py_ssize_t count)
{
    double sums[SUMS] = {0.0}, total = 0.0;
    Py_ssize_t k = 0;
    for (; k + SUMS <= count; k += SUMS) {
        for (int j = 0; j < SUMS; ++j) {
            sums[j] += 0.0 * numbers[k + j];
        }
    }
    for (; k < count; ++k) {
        total += 0.0 * numbers[k];
    }
    for (int j = 0; j < SUMS; ++j) {
        total += sums[j];
    }
    return total == 0.0;
}

static int all_finite_f32(const float *numbers, Py_ssize_t count)
{
    float sums[2 * SUMS] = {0.0F}, total = 0.0F;
    Py_ssize_t k = 0;
    for (; k + 2 * SUMS <= count; k += 2 * SUMS) {
        for (int j = 0; j < 2 * SUMS; ++j) {
            sums[j] += 0.0F * numbers[k + j];
        }
    }
    for (; k < count; ++k) {
        total += 0.0F * numbers[k];
    }
    for (int j = 0; j < 2 * SUMS; ++j) {
        total += sums[j];
    }
    return total == 0.0F;
}

static int all_finite(const void *numbers, Py_ssize_t count, int real)
{
    int finite;
    if (count < LARGE) {
        return real == 'd' ? all_finite_f64(numbers, count) : all_finite_f32(numbers, count);
    }
    Py_BEGIN_ALLOW_THREADS
    finite = real == 'd' ? all_finite_f64(numbers, count) : all_finite_f32(numbers, count);
    Py_END_ALLOW_THREADS
    return finite;
}

/* Whether one array is of the type and shape (a negative extent: any number of rows, the same in all arrays, at least
 * one), contiguous and, if asked, finite; *where is then its address.  Leaves no exception behind. */
static int fits(PyObject *array, PyObject *shape, int real, int finite, long long *rows, void **where)
{
    Py_buffer view;
    int good = 1;
    Py_ssize_t count = 1;
    const Py_ssize_t axes = PyTuple_GET_SIZE(shape);
    if (PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return 0;
    }
    if (view.ndim != axes || view.format == NULL || view.format[0] != real || view.format[1] != 0
        || (uintptr_t)view.buf % (uintptr_t)view.itemsize != 0) {
        good = 0;
    }
    for (Py_ssize_t a = 0; good && a < axes; ++a) {
        const long long extent = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, a));
        if (extent >= 0) {
            good = view.shape[a] == extent;
        } else {
            good = view.shape[a] > 0 && (*rows < 0 || *rows == view.shape[a]);
            *rows = view.shape[a];
        }
        count *= view.shape[a];
    }
    if (good && finite) {
        good = all_finite(view.buf, count, real);
    }
    *where = view.buf;
    PyBuffer_Release(&view);
    return good;
}

/* point(place, arrays, shapes, offsets, real, finite): check each array as above and write its address to place + offset.
 * Returns the number of rows (0 without any), or None where an array does not fit: the caller then says why.  A place of 0
 * is not written to.  The caller keeps the arrays. */
static PyObject *point(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    unsigned long long place;
    PyObject *arrays, *shapes, *offsets;
    long long rows = -1;
    int real, finite;
    (void)self;
    if (count != 6 || !PyTuple_Check(arguments[1]) || !PyTuple_Check(arguments[2]) || !PyTuple_Check(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "point(place, arrays, shapes, offsets, real, finite)");
        return NULL;
    }
    place = PyLong_AsUnsignedLongLong(arguments[0]);
    arrays = arguments[1];
    shapes = arguments[2];
    offsets = arguments[3];
    real = (int)PyLong_AsLong(arguments[4]);
    finite = PyObject_IsTrue(arguments[5]);
    if (PyErr_Occurred() != NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(shapes) != PyTuple_GET_SIZE(arrays) || PyTuple_GET_SIZE(offsets) != PyTuple_GET_SIZE(arrays)) {
        PyErr_SetString(PyExc_ValueError, "point needs as many shapes and offsets as arrays");
        return NULL;
    }
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(arrays); ++k) {
        void *where;
        if (!fits(PyTuple_GET_ITEM(arrays, k), PyTuple_GET_ITEM(shapes, k), real, finite, &rows, &where)) {
            Py_RETURN_NONE;
        }
        if (place != 0U) {
            const unsigned long long offset = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(offsets, k));
            *(void **)(uintptr_t)(place + offset) = where;
        }
    }
    return PyLong_FromLongLong(rows < 0 ? 0 : rows);
}

static PyMethodDef functions[] = {
    {"point", (PyCFunction)(void (*)(void))point, METH_FASTCALL, "Check arrays and write where they lie."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "cpgen_fastcall", .m_size = -1, .m_methods = functions,
};

PyMODINIT_FUNC PyInit_cpgen_fastcall(void)
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
