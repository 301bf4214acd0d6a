/* The team of threads that all compiled programs of a process share; team.c says how it works. */
#ifndef CPGEN_TEAM_H
#define CPGEN_TEAM_H

typedef struct cpgen_team {
    void (*parallel)(void (*body)(void *), void *data, unsigned threads);
    void (*barrier)(void);
    int (*single)(void);
    void (*loop)(unsigned long long count, unsigned long long least, unsigned long long start, unsigned long long step);
    int (*piece)(unsigned long long *from, unsigned long long *to);
    void (*end)(void);
    int (*index)(void);
} cpgen_team;

#endif
